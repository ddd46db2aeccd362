"""The restrictions of a codec process: a decoder that hostile content has taken over reaches only the file it decodes.

- `privileges`: no environment, descriptors or capabilities of the worker; other processes cannot inspect the process.
- `rlimits`: memory, processor time and written bytes.
- `landlock`: only files of libraries and of the process's own folder.
- `seccomp`: no network, no other process, no new program.

Nothing is imported here: a codec process must stay small.
"""
