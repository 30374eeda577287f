"""``python -m vggbook.evaluate``, and what an installed command of that name would run."""

from .command import main


def run() -> None:
    """The command; nothing is returned, so that its exit status is 0."""
    main()


if __name__ == "__main__":
    run()
