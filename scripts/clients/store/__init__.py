"""The wire of a store on several nodes, as others see it: a table, and nothing of Capstan's code.

`rows` calls each row of the table by grpcio, `slow` has nodes answer late, `ends` kills, freezes and stops them, `votes` does all of that
where there is no master, `wrong` gives the program files that are none.
"""
