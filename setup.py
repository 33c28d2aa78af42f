"Everything about the package stands in settings.ini; nothing is written twice."

from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
pythons = ["3.11", "3.12"]
readme = Path("README.md")


def lines(key):
    return [line for line in settings.get(key, "").splitlines() if line.strip()]


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else settings["description"],
    long_description_content_type="text/markdown",
    keywords=settings["keywords"].split(),
    license="Apache-2.0",
    license_files=["LICENSE"],
    author=settings["author"],
    author_email=settings["author_email"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Natural Language :: English",
        *(f"Programming Language :: Python :: {python}" for python in pythons),
    ],
    packages=find_packages(include=["cd4ml_nb", "cd4ml_nb.*"]),
    package_data={"cd4ml_nb": ["py.typed"]},
    python_requires=f">={settings['min_python']}",
    install_requires=lines("requirements"),
    extras_require={key.removesuffix("_requirements"): lines(key) for key in settings if key.endswith("_requirements")},
    entry_points={
        "console_scripts": lines("console_scripts"),
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
