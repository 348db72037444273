"""The paper's claims as studies: each a TOML file beside this one with its nets and what is said of them."""
