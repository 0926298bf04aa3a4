"""The wire of a store of versions, as others see it: a table, and nothing of Capstan's code.

`rows` calls each row of the table by grpcio, `several` has servers share a store, `disk` kills them, `terminals` runs the client program, `wrong` gives
the programs what is none.
"""
