"""Commands that run the service on this machine: demo, up, chat, sim."""
