"""
``python -m wirewitness``.
"""

from wirewitness.cli import main


if __name__ == "__main__":
    main()
