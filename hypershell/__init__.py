"""hypershell: an MPI-native parallel executor of shell commands.

Importing the package does no work: every sub-module is imported where it is first needed.
"""

__version__ = "0.1.0"
