"""A background worker that answers messages through the Responses API of Telnyx."""
