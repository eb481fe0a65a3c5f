"""Objects in stores (S3, Google, Azure, HTTP, Hugging Face) under the names that files have.

`path_of` makes a path of a name. That of an object opens, lists and tells its state as a path of a file does. Only
`requests` knows the network and the package obstore, which is loaded when the first object is asked for.
"""
