-- A text with one URL a line; the stored URL goes to a column of the application's own type.
create domain link as varchar(300);
create table batches (
  id serial primary key,
  user_id int,
  urls varchar(500),
  cover link,
  created_at timestamptz default now()
);
