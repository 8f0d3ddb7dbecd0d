"""Ways out of e-mail: SMTP, and Telnyx's API for e-mail."""
