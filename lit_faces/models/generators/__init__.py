"""Generators: source picture and condition in, picture out."""
