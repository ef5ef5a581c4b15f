"""Private helpers that several subpackages share.

`checks`, `exit_codes`, `extras`, `files`, `tables` and `text` import neither torch nor numpy until they are called.
"""
