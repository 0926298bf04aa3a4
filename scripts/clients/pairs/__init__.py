"""The wire of pairs and their central server, as others see it: a table, and nothing of Capstan's code.

`rows` calls each row of the table by grpcio, `crowds` many keys, large texts and many clients; `programs` runs the four
programs in pipes and files, `terminals` at a terminal, `wrong` uses them wrongly; `disk` kills servers and looks for files.
"""
