"""Compiles the small library that Python calls. The rest is in pyproject.toml."""

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class BuildLibrary(build_ext):
    """Builds a plain shared library, which works with every version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """Returns the path, without the version of Python."""
        return "/".join(fullname.split(".")) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Returns no symbol: the library is no module of Python."""
        return []


class AnyPython(bdist_wheel):
    """Tags the wheel for every Python 3 of this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """Returns the tag."""
        _, _, platform = super().get_tag()
        return "py3", "none", platform


setup(
    ext_modules=[
        Extension(
            "shm_sync._library",
            ["src/shm_sync/_library.c"],
            depends=["src/shm_sync/include/shm_sync.h"],
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-fvisibility=hidden",
            ],
            extra_link_args=["-pthread"],
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": AnyPython},
)
