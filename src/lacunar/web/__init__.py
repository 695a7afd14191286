"""`lacunar serve`: a page in the browser for the three jobs, and the HTTP API that the page uses.

`server` starts it; `app` holds the API; `security` what a request must bring; `store` the state folder; `views` rasters
that can be drawn tile by tile; `masks` what is missing, as edits; `jobs` the queue; `worker` the process of one job.
"""
