"""Commands that change something: pause, say, conversations, dead letters, personal data."""
