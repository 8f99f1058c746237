"""What is shipped is what is needed: the wheel carries the package's data files."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_carries_layouts_and_scripts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src"
    wanted = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    wanted = [name for name in wanted if "__pycache__" not in name]
    assert sorted(set(wanted) - set(names)) == []
