-- Names in capitals, forced row-level security, and triggers of the application that use names without a schema.
create type "Status" as enum ('QUEUED', 'COMPLETED', 'FAILED');
create table "Profile" ("userId" text primary key, changes int not null default 0);
insert into "Profile" values ('user_2abc');
create table "Generation" (
  "id" char(26) primary key,
  "userId" text references "Profile",
  "status" "Status" not null default 'QUEUED',
  "falWebhook" json,
  "requestId" text,
  "createdAt" timestamp(3) not null default now(),
  "updated" timestamp(3)
);
create function touch() returns trigger language plpgsql as $$
begin
  new."updated" := now();
  return new;
end $$;
create function count_change() returns trigger language plpgsql as $$
begin
  update "Profile" set changes = changes + 1 where "userId" = new."userId";
  return null;
end $$;
create trigger touch before update on "Generation" for each row execute function touch();
create constraint trigger counted after update on "Generation" deferrable initially deferred
  for each row execute function count_change();
alter table "Generation" enable row level security;
alter table "Generation" force row level security;
create policy everybody on "Generation" to authenticated using (true);
create policy unlocked on "Generation" as restrictive to authenticated using (status <> 'FAILED');
