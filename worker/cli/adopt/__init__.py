"""`outlast adopt`: stores the files of generations that are older than the installation."""
