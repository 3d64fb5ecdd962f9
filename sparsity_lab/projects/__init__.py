"""Folders for studies of one's own: specs, pipeline and first steps, from a template."""

from sparsity_lab.projects.create import Project, TemplateName, create_project

__all__ = ["Project", "TemplateName", "create_project"]
