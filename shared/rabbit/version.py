"""The one place where the version stands; of the library, and of the pipeline around it."""

__version__ = "0.1.0"
