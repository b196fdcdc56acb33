"""What `bb new` writes: whole distributions, from templates that are beside this file.

A template is a file that ends with `.tmpl`; its place below its folder is its place in the project,
where `package` stands for the import name and a leading `dot.` for a dot. What it holds is text for
`string.Template`.
"""

from bytesandbrains._scaffold._kinds import TEMPLATES, Template
from bytesandbrains._scaffold._names import Names, check_name
from bytesandbrains._scaffold._writing import LICENSES, Project, write_project

__all__ = [
    "LICENSES",
    "TEMPLATES",
    "Names",
    "Project",
    "Template",
    "check_name",
    "write_project",
]
