"""The wire of a store of ranges, as others see it: a table, and nothing of Capstan's code.

`rows` calls each row of the table by grpcio, `moves` has servers come and go under load and end by kill -9, `groups`
has some of them share a range, `wrong` asks what cannot be.
"""
