"""Readers of labelled patches: one module for each form in which people keep them, and a common row."""
