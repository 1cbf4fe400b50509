"""PlatformIO: the folder of this environment's board, since `src_dir` is the same for all environments."""

from pathlib import Path

Import("env")  # type: ignore[name-defined]  # noqa: F821

BOARD = env.GetProjectOption("custom_board")  # type: ignore[name-defined]  # noqa: F821
MAIN = Path(env.subst("$PROJECT_DIR")) / "firmware" / "boards" / BOARD / "main"  # type: ignore[name-defined]  # noqa: F821
env.Replace(PROJECT_SRC_DIR=str(MAIN))  # type: ignore[name-defined]  # noqa: F821
