"""Bundle to edit, without torch: request, preparation, engines, editor, a2edit-run."""
