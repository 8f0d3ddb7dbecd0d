"""Telnyx's phones and mailboxes: text messages, e-mail, messaging profiles."""
