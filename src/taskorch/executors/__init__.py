"""
Where attempts run: threads, programs, and calls in other processes.

Here belongs what starts work, sees it end, and can stop or hold it meanwhile; programs
have a package of their own. Nothing here may know of the kernel or the runtime, nor
decide what is run, or when. What is for programs is loaded when it is asked for.
"""
