"""Texts of people in other forms: normal, folded for comparing, cut between characters."""
