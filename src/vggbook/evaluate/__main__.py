"""``python -m vggbook.evaluate``, and what the installed command runs."""

from .command import main


def run() -> None:
    """The installed command; nothing is returned, so that its exit status is 0."""
    main()


if __name__ == "__main__":
    run()
