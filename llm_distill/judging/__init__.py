"""A model of the pipeline that grades answers, or says which of two is the better one."""
