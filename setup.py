"""What pyproject.toml cannot say: a wheel carries copies of what is edited elsewhere, specs/ and the pipeline."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COPIES = {
    "specs": "sparsity_lab/specs/shipped",
    "dvc.yaml": "sparsity_lab/projects/shipped/dvc.yaml",
    ".dvc/plots": "sparsity_lab/projects/shipped/.dvc/plots",
}


class BuildWithCopies(build_py):
    """Copies them into the package, beside what reads them; an editable install reads them where they are."""

    def run(self) -> None:
        """Build the package, then lay the copies; what an earlier build left of them goes."""
        super().run()
        if self.editable_mode:
            return
        for source, copy in COPIES.items():
            target = Path(self.build_lib, copy)
            if Path(source).is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


setup(cmdclass={"build_py": BuildWithCopies})
