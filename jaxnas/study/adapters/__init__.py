"""Studies behind the interfaces of other tools."""
