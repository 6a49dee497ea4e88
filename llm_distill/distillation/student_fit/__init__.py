"""What a student's forward pass says of texts, for `score_student_fit`."""
