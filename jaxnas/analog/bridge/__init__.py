"""The only place where torch and aihwkit are imported."""
