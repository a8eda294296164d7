"""Outputs of an evaluation: tables, a contact sheet, and an HTML page."""
