"""The way in by HTTP: Telnyx's webhooks and producers' messages. A process of its own."""
