//! Bodies of the Docker Engine API, written from the published API description.
