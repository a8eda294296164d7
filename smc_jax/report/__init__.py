"""What an evaluation leaves behind: tables, a contact sheet, and a page to look at."""
