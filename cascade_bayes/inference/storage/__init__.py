"""The file of a posterior: how one is written, and how one is read without being believed."""
