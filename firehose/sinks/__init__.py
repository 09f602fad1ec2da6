"""Where finished objects go. One file per sink, its config class beside it."""
