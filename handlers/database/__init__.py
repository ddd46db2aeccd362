"""Calls to the Supabase database: one module for each group of SQL functions."""
