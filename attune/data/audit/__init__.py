"""The audit: what is in the data that a model will learn from, as plain JSON and as one page."""

from attune.data.audit.audit import audit
from attune.data.audit.page import write_page
from attune.data.audit.view import AuditOptions

__all__ = ["AuditOptions", "audit", "write_page"]
