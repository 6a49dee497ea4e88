"""How good a text is for a student, from the student's gradients."""
