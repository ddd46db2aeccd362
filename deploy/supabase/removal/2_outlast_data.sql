-- Removes Outlast's data: its tables, and the columns of your tables that Outlast added. The files in
-- Storage stay, but no record shows any more which generation they belong to. Run 1_outlast.sql first.
do $$
declare
  v record;
begin
  for v in select a.attrelid::regclass as rel, a.attname as name from pg_attribute a
      join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
      where not a.attisdropped and a.attnum > 0
        and col_description(a.attrelid, a.attnum) like 'Outlast: %' loop
    execute format('alter table %s drop column %I', v.rel, v.name);
  end loop;
  for v in select a.attrelid::regclass as rel, a.attname as name from pg_attribute a
      join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
      where not a.attisdropped and a.attnum > 0 and col_description(a.attrelid, a.attnum) like 'Outlast writes this column,%' loop
    execute format('comment on column %s.%I is null', v.rel, v.name);
  end loop;
  for v in select oid::regclass as name from pg_class
      where relnamespace = 'public'::regnamespace and relkind = 'r' and starts_with(relname, 'outlast_') loop
    execute format('drop table %s', v.name);
  end loop;
end $$;

notify pgrst, 'reload schema';
