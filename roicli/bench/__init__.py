"""`roicli bench`: the engine, the whole job and its scaling, timed side by side with what else is installed."""
