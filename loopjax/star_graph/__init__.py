"""The toy task, whole: graph, teacher, walks, rows, exact theory, students and their rollouts."""
