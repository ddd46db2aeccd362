-- A table of images without a status: a row is complete when its URL is there.
create table images (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  prompt text,
  image_url text,
  created_at timestamptz not null default now()
);
