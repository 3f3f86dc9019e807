"""A campaign file -> ordered runs. Pure: the only files read are the campaign file and those that it names."""
