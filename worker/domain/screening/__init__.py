"""Recognises messages that no model answers: opt-outs, HELP, reactions, machines."""
