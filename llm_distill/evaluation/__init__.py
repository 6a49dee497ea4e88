"""Exams and what they measured."""
