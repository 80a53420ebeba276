"""How results are shown: tables for people, formats for programs."""
