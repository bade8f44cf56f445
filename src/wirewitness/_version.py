"""
The version, where hatchling reads it.
"""

__version__ = "0.1.0"
